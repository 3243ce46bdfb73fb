"""Logs and metrics, used by every room but the domain."""
