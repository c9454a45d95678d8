"""Who comes in, and what he may ask for.

access        tokens and names of certificates to what they may do; no file, no clock
certificates  what TLS needs, read and proved whole
files         what a file says, looked at again from time to time; a bad one changes nothing
locks         the two together, as the options name them
"""
