from tests.planted.bug import Bug

BUGS: tuple[Bug, ...] = ()
