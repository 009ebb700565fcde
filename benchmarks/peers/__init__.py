"""Amber beside what a user would pick instead: the same functions, each peer in its own documented form."""
