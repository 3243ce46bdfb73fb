"""The pure core: state, commands, events, `decide` and `evolve`. No await, no I/O, no clock, no random."""
