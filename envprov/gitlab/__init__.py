"""GitLab: the only importer of its client. Returns the values of ``domain.forge``, raises the errors of our tree."""
