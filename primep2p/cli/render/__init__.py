"""Answers and events for people: tables and lines."""
