package federation
import ("testing";"os")
func TestShow(t *testing.T){
 a := hardenedAccount(t)
 p := a.proof(t)
 r := prove(t,p)
 r.WriteText(os.Stdout,false)
 a = newAccount(t)
 d, in, _ := Break(a.config, render(t,a.config,Plain), Faults()...)
 a.setUp(t,d,in)
 p = a.proof(t)
 p.InForce=&InForce{d,in}
 for i := range p.Tenants { p.Tenants[i].Token = a.issuer.minter(t, p.Tenants[i].Tag, withoutTags)}
 r = prove(t,p)
 r.WriteText(os.Stdout,false)
 d, in, _ = Break(a.config, render(t,a.config,Hardened), FaultTagsClaim)
 a = newAccount(t)
 a.setUp(t,d,in)
 p = a.proof(t)
 p.InForce=&InForce{d,in}
 for i := range p.Tenants { p.Tenants[i].Token = a.issuer.minter(t, p.Tenants[i].Tag, withoutTags)}
 r = prove(t,p)
 r.WriteText(os.Stdout,false)
}
