"""A class: what a teacher sees of its seats, without reading anyone's answers.

``box`` is the folder that a teacher opens and learners drop reports into, ``report`` what
one says and how a stranger's is read, ``seat`` the learner's end, ``figures`` what a teacher
makes of them, ``command`` the command line.  There is no server and no account: files and
their modes are all, so it works wherever people share a machine or a folder.
"""
