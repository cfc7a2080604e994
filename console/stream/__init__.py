"""The live stream: one reader per process, any number of sockets.

Down the socket (JSON text frames, numbered by `seq`; the client answers each with {"ack": seq}):

    snapshot  the whole state and the activity since the client's position; `gap` says that some of it is left out
    update    rows that changed (newest state per row), rows that are gone, activity since the message before
    beat      nothing changed; still here

All three carry `now` (the database's clock at the last read), `age_ms` (how old that read is) and `database` (whether
the reader reaches it). Up the socket: {"resume": "xid-id" or null} first, then acknowledgements.
"""
