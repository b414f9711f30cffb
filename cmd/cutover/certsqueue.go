package main

// ProvesWildcards implements admin.Prefetcher.
func (p prefetcher) ProvesWildcards() bool { return p.certificates.ProvesWildcards() }
