"""What reaches people outside: one class for each service, which does what it is told and decides nothing."""
