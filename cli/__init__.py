"""The commands of `./yeoul`, one module each."""
