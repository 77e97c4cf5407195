"""The receiver: GitLab's deliveries in, one record out."""
