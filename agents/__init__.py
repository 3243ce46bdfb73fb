"""Who consumes what: one module for each concern."""
