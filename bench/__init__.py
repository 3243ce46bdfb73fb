"""The ratios of `./yeoul bench`: Yeoul beside small honest programs, on the same servers, in one run."""
