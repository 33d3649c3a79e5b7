def svg(*a): return ""
def page(*a): return ""
def table(*a): return ""
