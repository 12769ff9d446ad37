"""What a person can do with the farm, one module an action.

The command line and the studio page call these and hold no logic of their own. An action takes an
open `Farm`, returns data, prints nothing, and raises `ValueError`, `LookupError` or
`ConnectionError` with a message for the person who asked.
"""
