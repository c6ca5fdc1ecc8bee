"""All that decides the bits of a net, and nothing else: a change in here makes every net another one."""
