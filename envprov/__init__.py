"""A Kubernetes environment for every Git branch, and a guard for what the environments share."""

__version__ = "0.1.0"
