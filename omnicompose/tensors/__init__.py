"""Where tensors come from and where they go: sources that read nothing but headers, and writers."""
