"""The lab's Git server: bare repositories over smart HTTP, by git's own ``git http-backend``.

It is an ordinary program in a process of its own (``python -m labkit.gitserver``) that
imports nothing of labkit: any server that speaks Git could stand in its place.  ``config``
says what it can be told, ``repositories`` makes them, ``server`` is the HTTP in front,
``body`` and ``backend`` carry one request to git and back, and ``hook`` tells Argo CD of
a push.
"""
