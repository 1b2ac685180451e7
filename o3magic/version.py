"""The version, on the lowest floor so that nobody inside has to import the package's face."""

__version__ = "0.1.0"
