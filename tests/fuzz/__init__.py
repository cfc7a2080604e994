"""Bad input by the hundred thousand: `make fuzz`."""
