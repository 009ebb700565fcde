"""Amber against what one would write instead: each module measures both in one run and prints their ratio."""
