"""How fast, how small, how faithful: measured on real labs, beside the lab's own code.

``python -m bench`` prints times, memory and ratios with the goal of each; ``python -m
bench.conformance`` runs Kubernetes' own tests against the node.  Neither is part of the
tests: figures depend on the machine.  Nothing in ``labkit`` imports this package.
"""
