"""The command line `s2d`."""


def main() -> None:
    """Show that the command line is not built yet."""
