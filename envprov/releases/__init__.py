"""The edge to Helm: the only importer of pyhelm3; returns our types, raises our errors."""
