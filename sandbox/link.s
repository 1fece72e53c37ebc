// This file lets the functions without a body in init.go be linked by name.
