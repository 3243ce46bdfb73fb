"""Sealing, passwords, tokens and signatures: used by web, agents and stores. Keys are handed in, never looked for."""
