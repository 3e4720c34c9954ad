"""Figures and the files that they make."""


def saved(figure, path):
    """Render a figure to a file and return the file's size."""
    figure.savefig(path)
    return path.stat().st_size
