"""The words of the protocol: frozen records, and nothing that acts."""
