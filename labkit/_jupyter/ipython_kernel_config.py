# Read by every kernel of this environment: errors that learners meet become sentences.
c = get_config()  # type: ignore[name-defined]  # noqa: F821 - IPython puts it there
c.InteractiveShellApp.extensions = ["labkit.kernel"]
