"""User models of projects that are not ours, each odd in its own way; and the tests that run with each of them."""
