"""What a config may say: errors that name the key, durations in steps, comparison of two configs."""


class ConfigError(ValueError):
    """A config key, flag or file is wrong; the message names it, the value received and what would be right."""
