"""How do tools of SCITT and COSE read an entry of the log?"""
