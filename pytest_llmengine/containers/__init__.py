"""Servers of engines in containers of Docker's: started, waited for, and never left behind."""
