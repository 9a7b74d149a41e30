"""The lab's demo application: it shows the credentials it has, and where they came from.

An ordinary twelve-factor program: its settings are environment variables, its log is
standard output, its secret is a file somebody else put there.  It imports nothing of
labkit, only the standard library, and does not know that Vault, Kubernetes or the
External Secrets Operator exist.  ``python -m labkit.demo_app`` runs it, and so does
``python path/to/demo_app`` with the folder copied anywhere.
"""
