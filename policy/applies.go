package policy

// Applies reports whether a statement of p matches the request when p stands in
// that layer of the set, whatever the statement's effect. unsettled says that AWS
// leaves it open for every statement that may match. The other policies of the
// set are not asked.
func (p *Policy) Applies(r *Request, s *Set, layer Layer) (applies, unsettled bool) {
	best := no
	for i := range p.statements {
		if o := p.statements[i].match(r, s, layer); o.verdict > best {
			best = o.verdict
		}
	}
	return best != no, best == maybe
}
