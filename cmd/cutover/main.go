// Command cutover moves live traffic from a v1 service to a v2 service.
package main

func main() {}
