"""The control socket, both ends: JSON-RPC 2.0, one object a line."""
