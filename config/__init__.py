"""Settings: the only room that reads the environment.

`load` turns variables into one frozen `Settings`; a wrong one stops the start with every complaint at once.
"""

from config.inherited import process_environ
from config.passwords import without_passwords
from config.settings import VARIABLES, Settings, environment, load
from config.variables import EXAMPLE_KEY, SettingsError, Variable

__all__ = [
    "EXAMPLE_KEY",
    "VARIABLES",
    "Settings",
    "SettingsError",
    "Variable",
    "environment",
    "load",
    "process_environ",
    "without_passwords",
]
