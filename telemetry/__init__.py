"""Logs, metrics, traces and reports of errors, used by every room but the domain."""
