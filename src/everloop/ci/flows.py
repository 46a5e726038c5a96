SERVICES = ("github", "gitlab")


def write_flows() -> None: ...
