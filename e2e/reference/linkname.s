// With this file, a function without a body is allowed: the linker finds its body in another package.
