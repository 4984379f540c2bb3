"""What is wrong with a processor, for whoever configured it. Needs no torch: the launcher checks workflows too."""


class ProcessorError(Exception):
    """The processor cannot be had as configured, or did not give what it must. One line for the user."""
