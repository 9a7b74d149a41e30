"""The lab's one node: what a kubelet does for this course, with local programs as containers.

The leaves (``projection``, ``volumes``, ``environment``, ``mounts``, ``launch``,
``images``) are plain functions over API objects and files; the agent calls them and is
the only one that talks to the API.
"""
