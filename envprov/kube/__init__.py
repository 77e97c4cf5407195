"""The edge to Kubernetes: the only importer of the Kubernetes client; returns our types, raises our errors."""
