"""Reading what a server sent: a shape that is wrong fails the check in words."""
