#!/usr/bin/python3
"""Overlay mode: we only mark, the administrator's own ruleset decides by the mark; a change of mode carries the doors over (I7)."""
from e2e import CLIENT, REMOTE, main

PORT = 1046
SITE = """table inet site {
  chain forward {
    type filter hook forward priority 0; policy drop;
    ct state established accept
    ct mark & 0x80000000 != 0 accept
  }
}"""


def a_change_of_mode_carries_the_doors_over(lab):
    lab.listen(PORT)
    grant = lab.grant(REMOTE[4], PORT, "--max-connections", "2")["grant"]
    assert lab.connect(REMOTE[4], PORT, CLIENT[4]) == 1
    lab.wait_entries(1, "--kind", "established", "--grant", grant["id"])
    lab.run("gw1", "nft", "-f", "-", input=SITE)
    with open(f"{lab.folder}/gw1.postern-agent.conf", encoding="utf-8") as f:
        conf = f.read()
    lab.write("gw1.postern-agent.conf", conf.replace("mode = enforce", "mode = overlay"))
    lab.kill("gw1", "postern-agent", 15)
    lab.start("gw1", "postern-agent")
    lab.joined("gw1")
    assert lab.json("policy", "gateway", "show", "gw1")[0]["mode"] == "overlay"
    assert lab.connect(REMOTE[4], PORT, CLIENT[4]) == 1, "one of two uses was left"
    assert lab.connect(REMOTE[4], PORT, CLIENT[4]) == 0, "and no more (I4)"


def the_sites_own_rules_decide_by_the_mark(lab):
    for family in (4, 6):
        assert lab.connect(REMOTE[family], PORT, CLIENT[family]) == 0
        lab.grant(REMOTE[family], PORT)
        assert lab.connect(REMOTE[family], PORT, CLIENT[family]) == 1
        assert lab.connect(REMOTE[family], PORT, CLIENT[family]) == 0


if __name__ == "__main__":
    main([a_change_of_mode_carries_the_doors_over, the_sites_own_rules_decide_by_the_mark])
