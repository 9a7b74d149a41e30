"""Kubernetes' own conformance tests, run against a lab's node.

``groups`` says which tests, ``suite`` runs them, ``misses`` holds what is known to fail and
why, ``page`` writes the score down.  The tests themselves are upstream's, unchanged.
"""
