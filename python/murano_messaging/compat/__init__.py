"""Drop-ins for what this package replaces: the interfaces of other libraries on this one's engine."""
