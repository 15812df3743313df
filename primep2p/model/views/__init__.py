"""What a node tells its owner: answers of the control socket, and events.

JSON-friendly: ids are strings, hashes are hex, times are seconds.
"""
