"""rkt's pod directory: names, states, locks and files (STAGE1-CONTRACT section 1). What stage0 writes and stage1_skim reads."""
