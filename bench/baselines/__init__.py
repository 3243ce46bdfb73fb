"""What Yeoul is measured beside: each as good as its authors would write it."""
