"""What each picture of the embedded sample shows: strokes on a canvas of 96 x 96 pixels.

A line that starts with an item id starts a drawing, indented lines continue it. Strokes are drawn
in order, separated by ``;``. ``draw_sample.py`` documents the shapes and holds the colours.
"""

from __future__ import annotations

import re

_TEXT = """
o01 line paper 1 48,20 4,82; line paper 1 48,20 92,82; poly main 10,78 48,22 86,78;
    poly dark 48,22 36,78 62,78; poly glow 48,40 42,78 55,78; line ink 2 48,13 48,24
o02 box main 6,36 90,78; pie main 6,16 46,76 180,270; pie main 50,16 90,76 270,360;
    box main 24,16 72,60; line dark 2 26,16 26,78; line dark 2 70,16 70,78;
    pie dark 34,40 62,116 180,360; box glow 12,42 22,54; box glow 75,42 85,54; box leaf 0,78 96,96
o03 box paper 0,74 96,96; line paper 1 24,34 2,76; line paper 1 72,34 94,76;
    pie main 10,18 86,138 180,360; poly paper 6,80 12,70 84,70 90,80;
    pie dark 37,44 59,100 180,360; ring ink 1.5 28,18 68,138 186,354;
    ring ink 1.5 10,44 86,92 190,350; oval paper 14,14 18,18; oval paper 76,10 80,14;
    oval paper 30,6 33,9
o04 line paper 1 8,60 2,78; line paper 1 92,66 94,84; line wood 4 24,26 24,86;
    line wood 4 74,14 74,82; poly dark 24,30 74,18 64,54 6,60; poly main 24,30 74,18 92,66 42,78;
    line light 1.5 49,24 67,72; line paper 1.5 24,30 74,18
o05 poly metal 40,40 78,40 92,49 82,57 40,57; line steel 1 42,52 84,52; box main 6,39 42,58;
    oval metal 14,46 19,51; oval metal 28,46 33,51; box steel 39,37 43,60
o06 box water 28,62 68,90; line steel 6 48,64 48,48; oval main 36,40 60,52;
    line main 3 48,48 22,38; line main 3 48,48 74,38; poly fire 36,40 42,18 48,32 54,12 60,40;
    poly glow 43,40 48,28 53,40; line steel 3 52,56 66,56
o07 box dark 8,12 88,46; box light 14,18 82,42; poly main 8,46 88,46 92,70 4,70;
    oval ink 12,50 44,66; oval ink 52,50 84,66; poly fire 56,58 60,44 66,52 70,38 80,58;
    poly glow 63,58 67,50 73,58; box ink 12,42 42,56; line ink 4 40,48 52,42; box dark 4,68 92,84;
    box paper 22,73 34,79; box paper 62,73 74,79
o08 box main 62,30 84,84; box steel 67,20 79,32; line steel 3 73,24 50,24 44,60;
    oval steel 14,60 52,72; poly fire 16,62 24,28 32,46 40,22 50,62; poly glow 27,62 34,44 41,62;
    line steel 3 20,70 14,86; line steel 3 46,70 52,86
o09 line wood 4 24,64 6,56; line wood 4 26,70 8,78; poly fire 30,42 38,14 46,30 54,10 66,42;
    poly glow 42,42 48,26 56,42; poly main 24,40 72,40 66,86 30,86; box ink 38,60 58,76;
    oval dark 34,46 40,52; oval dark 45,46 51,52; oval dark 56,46 62,52
o10 box main 20,46 72,82; box light 18,42 74,48; box dark 30,22 62,42; box light 28,20 64,25;
    oval ink 43,13 49,20; line ink 4 74,54 92,48
o11 ring steel 4 58,36 82,66 270,90; box main 22,24 66,80; box light 20,22 68,28;
    line dark 1.5 28,44 36,44; line dark 1.5 28,54 36,54; line dark 1.5 28,64 36,64
o12 box main 30,14 66,84; box dark 34,50 62,80; box main 20,40 32,76; box main 64,40 76,76;
    box light 28,12 68,28; line ink 2 40,28 40,50; line ink 2 56,28 56,50;
    ring ink 2 42,5 54,17 180,360
o13 ring ink 3 30,22 66,62 180,360; box main 8,42 88,80; oval main 2,42 24,80;
    oval dark 74,42 94,80; line ink 3 34,42 34,80; line ink 3 60,42 60,80; line paper 2 22,50 74,50
o14 line steel 3 24,12 24,80; line steel 4 14,16 34,12; line steel 3 74,12 74,80;
    line steel 4 66,12 86,16; box main 30,18 68,88; box dark 30,16 68,32; box dark 36,58 62,82;
    line paper 2 49,32 49,56
o15 line ink 4 4,20 92,20; box main 8,26 44,84; box main 52,26 88,84; box dark 8,24 44,36;
    box dark 52,24 88,36; box paper 18,54 34,62; box paper 62,54 78,62; line ink 3 20,18 20,28;
    line ink 3 76,18 76,28
o16 pie main 22,14 74,74 180,360; box main 22,42 74,84; box dark 28,54 68,80;
    line paper 2 30,44 66,44; ring ink 3 40,6 56,26 180,360
o17 box main 20,12 76,86; line dark 2 22,28 74,28; line dark 2 22,44 74,44;
    line dark 2 22,60 74,60; line dark 2 22,74 74,74; poly light 50,12 74,12 74,26
o18 oval main 26,8 70,52; poly main 26,30 70,30 62,90 34,90; oval dark 36,16 60,40;
    oval glow 40,20 56,36; line dark 2 30,56 66,56; line dark 2 32,72 64,72;
    line paper 2 48,44 48,70
o19 oval main 28,6 44,22; oval main 52,6 68,22; oval main 28,10 68,50; box main 28,30 68,90;
    oval dough 36,18 60,42; oval ink 41,26 45,30; oval ink 51,26 55,30; oval ink 46,32 50,35;
    box dark 36,60 60,78
o20 box main 30,12 66,84; line dark 2 34,24 62,24; line dark 2 34,36 62,36;
    line dark 2 34,48 62,48; line dark 2 34,60 62,60; line dark 2 34,72 62,72; oval ink 58,6 66,14
o21 poly main 4,66 24,24 72,24 92,66; poly dark 4,66 92,66 92,80 4,80; line dark 1.5 48,24 48,66;
    line dark 1.5 36,24 26,66; line dark 1.5 60,24 70,66; line dark 1.5 14,46 82,46;
    oval paper 28,24 46,36; oval paper 50,24 68,36; oval steel 84,70 94,78
o22 ring main 6 12,26 84,84 0,360; box main 32,62 64,88; oval metal 38,64 58,86;
    oval glow 42,68 54,82
o23 ring ink 3 30,6 66,46 180,360; box ink 28,26 68,34; box glow 30,34 66,70;
    oval paper 40,42 56,64; box main 26,70 70,86; line ink 2 38,34 38,70; line ink 2 58,34 58,70
o24 poly glow 40,40 92,16 92,84 40,60; box main 14,36 44,64; box steel 40,34 48,66;
    line steel 7 20,78 34,78; box main 22,60 32,80
o25 poly main 10,42 30,36 44,50 70,58 86,66 88,76 10,76; poly ink 8,74 90,74 86,84 10,84;
    line paper 2 36,52 44,44; line paper 2 44,57 52,49; line paper 2 53,60 60,53;
    poly dark 10,56 24,56 26,74 10,74; oval dark 11,36 31,46
o26 box main 18,12 50,72; poly main 40,46 62,54 82,60 86,74 18,74;
    poly ink 14,72 88,72 88,84 14,84; line glow 2 42,24 52,24; line glow 2 42,34 52,34;
    line glow 2 44,44 56,46; box dark 18,12 50,20
o27 box main 18,10 52,72; poly main 40,44 64,54 84,60 88,74 18,74;
    poly fire 12,72 90,72 90,78 12,78; poly ink 12,78 90,78 84,86 18,86; line paper 2 42,24 54,24;
    line paper 2 42,34 54,34; line paper 2 46,44 60,48; box steel 18,10 52,18
o28 poly main 32,42 64,42 72,84 66,90 30,90 24,84; poly water 28,64 68,64 72,84 66,90 30,90 24,84;
    box ink 36,30 60,42; box light 40,14 56,30; oval paper 44,8 52,16
o29 box main 32,28 64,90; box steel 34,12 62,28; box dark 32,28 64,34; line light 3 40,42 40,80
o30 box main 32,34 64,88; poly main 36,36 42,24 54,24 60,36; box ink 40,16 56,26;
    oval paper 44,8 52,18; box dark 34,52 62,58; box paper 36,64 60,78
o31 poly paper 8,24 34,16 34,76 8,84; poly main 34,16 62,24 62,84 34,76;
    poly paper 62,24 88,16 88,76 62,84; line tomato 2 14,72 24,56 38,62 52,44 70,50 80,30;
    line water 2 12,40 28,44; line water 2 66,70 84,64; oval tomato 77,26 83,32
o32 box light 34,6 72,34; box paper 26,32 78,90; oval ink 30,38 74,82; oval paper 34,42 70,78;
    poly main 52,46 58,60 46,60; poly ink 46,60 58,60 52,74
o33 box main 20,12 82,84; box paper 28,20 74,36; line paper 2 30,72 42,52 54,64 72,44;
    line metal 3 14,20 26,20; line metal 3 14,34 26,34; line metal 3 14,48 26,48;
    line metal 3 14,62 26,62; line metal 3 14,76 26,76
o34 poly main 34,20 62,20 90,64 78,72 68,54 68,86 28,86 28,54 18,72 6,64; oval dark 34,8 62,32;
    oval ink 40,13 56,30; line paper 2 48,30 48,86
o35 poly main 32,16 64,16 88,70 76,76 66,46 66,86 30,86 30,46 20,76 8,70; oval dark 38,10 58,24;
    line light 2 31,56 65,56; line light 2 31,66 65,66
o36 box main 12,22 42,78; oval main 12,10 42,48; oval main 34,38 50,66; box dark 12,72 42,86;
    box main 58,22 88,78; oval main 58,10 88,48; oval main 50,44 66,72; box dark 58,72 88,86
o37 line main 6 54,24 50,54 40,90; poly steel 16,28 40,16 62,16 62,26 42,26 20,40;
    poly steel 60,14 80,10 84,26 60,26; poly ink 37,84 44,86 38,95
o38 poly coffee 24,12 48,12 50,40 74,50 84,62 20,62; line main 4 24,34 48,36;
    line main 4 56,44 50,62; box main 14,62 88,70; poly steel 16,68 26,68 20,88;
    poly steel 30,68 40,68 35,88; poly steel 50,68 60,68 55,88; poly steel 64,68 74,68 69,88;
    poly steel 78,64 88,64 96,84
o39 line steel 4 28,58 70,90; line steel 4 68,58 26,90; poly main 26,12 70,12 68,54 28,54;
    box dark 22,52 74,62; line steel 4 16,44 28,44; line steel 4 68,44 80,44;
    line steel 4 20,44 26,66; line steel 4 76,44 70,66
o40 line steel 5 20,30 20,14 34,14; line steel 5 44,34 44,12; line steel 5 66,34 78,14;
    box main 12,34 84,62; oval steel 18,42 30,54; oval steel 66,42 78,54; box dark 36,42 60,54;
    line steel 4 28,62 20,84; line steel 4 58,62 66,86
k01 poly metal 34,36 92,42 84,56 34,64; poly steel 34,36 92,42 88,48 34,48;
    poly main 4,38 34,38 34,52 4,54; line light 2 30,38 30,52
k02 poly metal 34,28 86,28 92,34 92,66 34,66; line steel 2 36,58 90,58; box main 4,30 36,46;
    line ink 2 30,31 30,45
k03 poly metal 42,42 66,40 84,62 64,58 42,56; box main 12,41 44,56; oval metal 18,46 22,50;
    oval metal 32,46 36,50
k04 poly metal 32,34 88,34 92,42 88,52 32,50; poly metal 36,48 48,48 42,55;
    poly metal 46,48 58,48 52,55; poly metal 56,48 68,48 62,55; poly metal 66,48 78,48 72,55;
    poly metal 76,48 88,48 82,55; poly main 4,24 28,24 34,34 34,46 28,38 4,38
k05 poly metal 34,46 70,42 93,30 74,54 34,58; box main 4,44 36,60; line light 2 12,48 12,56;
    line light 2 19,48 19,56; line light 2 26,48 26,56
k06 poly ink 6,66 80,66 90,80 14,80; poly main 10,46 76,46 86,60 20,60;
    poly dough 20,60 86,60 86,68 20,68; poly dark 10,46 20,60 20,68 10,54; oval water 62,48 72,53;
    line metal 3 24,42 82,28
k07 box main 6,22 90,38; line dark 1 10,30 86,30; poly metal 18,34 26,34 26,66 18,58;
    box ink 18,14 26,34; poly metal 42,34 56,34 56,64 42,64; box coffee 45,14 53,34;
    poly metal 72,34 80,34 80,70; box tomato 72,14 80,34
k08 box main 10,22 86,78; box light 14,26 32,44; box light 50,26 68,44; box light 32,44 50,60;
    box light 68,44 84,60; box light 14,60 32,74; box light 50,60 68,74; oval dark 74,28 82,36
k09 box main 58,42 94,54; oval main 6,18 70,80; oval dark 12,24 64,74; oval paper 22,34 52,62;
    oval fire 31,42 44,54; oval dough 84,45 90,51
k10 line main 6 62,44 94,24; oval main 4,34 72,74; oval dark 9,38 67,70; oval dough 16,42 60,66;
    oval glow 28,48 42,56
k11 box main 14,42 82,82; oval main 4,46 20,58; oval main 76,46 92,58;
    pie dark 14,22 82,62 180,360; oval ink 42,14 54,26; box light 12,40 84,46
k12 box main 10,42 62,78; box light 8,38 64,44; line steel 5 62,48 92,44;
    pie dark 12,24 60,52 180,360; oval ink 32,18 40,26
k13 pie main 6,14 74,82 0,180; oval dark 6,40 74,56; oval leaf 22,42 36,50;
    oval tomato 40,44 52,52; line wood 7 74,46 93,36
k14 box main 36,30 58,84; line wood 5 48,24 84,10; oval steel 40,20 56,36; line ink 5 58,56 78,56;
    box paper 58,70 76,84; line coffee 2 66,60 66,70; box steel 20,84 82,90;
    oval paper 40,42 54,56; line tomato 1.5 47,49 51,45
k15 line steel 5 48,16 78,16; oval wood 72,4 84,18; box steel 38,14 58,24; box main 34,24 62,86;
    box light 34,56 62,60; line light 2 42,30 42,50
k16 line main 5 28,70 14,60 18,38 8,30; poly main 32,40 68,40 76,80 24,80;
    ring main 5 62,40 92,74 270,90; oval ink 44,28 56,38; box dark 34,36 66,41;
    box steel 20,80 80,88; oval fire 46,82 52,87
k17 oval metal 8,28 60,66; oval steel 14,33 54,61; oval coffee 19,37 49,57;
    line steel 6 58,50 66,54; line main 10 66,54 90,70
k18 oval main 32,10 64,40; box steel 42,36 54,64; box metal 24,64 72,80; oval coffee 16,80 80,92
k19 poly main 16,24 80,24 58,62 38,62; ring main 5 66,26 90,50 270,120; box dark 26,62 70,68;
    poly coffee 24,28 72,28 70,33 26,33; line coffee 2 48,68 48,82; pie metal 30,66 66,92 0,180
k20 poly main 30,26 68,26 72,80 26,80; poly main 30,26 16,20 32,42;
    ring steel 5 60,36 88,70 270,90; oval paper 28,22 68,32; line light 3 36,40 34,70
k21 box main 14,40 82,84; box dark 18,44 78,66; box glow 46,70 76,80;
    poly paper 36,18 62,18 58,46 40,46; ring paper 3 56,22 70,38 270,90; oval coffee 39,17 59,22;
    oval light 22,72 28,78
k22 poly main 30,18 64,18 58,48 36,48; poly dark 34,48 60,48 70,86 26,86;
    poly main 30,18 22,24 33,32; line ink 5 64,22 80,28 76,50; oval ink 43,8 51,16;
    pie light 30,12 64,26 180,360; box steel 33,45 61,51
k23 oval main 26,32 78,80; oval dark 40,28 64,38; oval main 48,20 56,30; line main 9 28,58 8,46;
    poly main 72,48 88,34 92,38 76,60; line light 2 38,48 42,42
k24 oval steel 20,26 78,86; oval main 22,28 76,84; pie leaf 24,30 74,82 10,170;
    box metal 40,24 58,62; box steel 36,20 62,28; poly main 74,48 92,34 94,38 76,60;
    ring steel 4 6,38 34,72 90,270; oval ink 46,12 52,20
k25 oval dark 14,72 82,86; oval main 18,70 78,81; pie main 22,20 74,80 0,180; box dark 22,47 74,51;
    pie main 28,30 68,62 180,360; oval dark 43,22 53,32; oval leaf 45,60 51,64
k26 pie main 8,36 64,92 0,180; oval leaf 8,58 64,70; box dark 26,86 46,92; box wood 66,14 82,44;
    poly dough 66,44 82,44 88,76 60,76; line wood 1 68,48 64,74; line wood 1 74,48 74,74;
    line wood 1 80,48 84,74
k27 box main 6,40 34,84; box main 36,26 62,84; box main 64,46 90,84; box dark 6,36 34,44;
    box dark 36,22 62,30; box dark 64,42 90,50; box paper 12,56 28,70; box paper 41,48 57,64;
    box paper 69,60 85,74
k28 oval dark 8,22 88,80; oval main 12,24 84,70; oval dark 18,28 78,66; oval dough 20,26 76,64;
    ring main 2 28,30 68,60 0,360; ring main 2 38,36 58,54 0,360
k29 poly main 8,54 72,54 88,74 24,74; poly dark 24,74 88,74 88,80 24,80;
    poly dark 8,54 24,74 24,80 8,60; oval wood 22,40 78,68; oval tomato 27,42 73,63;
    oval glow 36,46 46,53; oval glow 54,48 64,56; oval leaf 47,54 53,59
k30 ring steel 3 12,10 48,54 0,360; ring steel 3 18,16 42,48 0,360; ring steel 3 24,22 36,42 0,360;
    line steel 4 38,48 50,58; line main 8 52,60 84,86
k31 box steel 24,22 72,90; box main 26,24 70,88; box dough 27,52 69,87; oval paper 34,60 42,68;
    oval paper 52,70 58,76; line tomato 3 26,52 70,52; box wood 22,12 74,26; oval paper 46,56 51,61
k32 poly dark 10,40 86,40 74,72 22,72; line light 2 22,44 30,70; line light 2 36,44 40,70;
    line light 2 48,44 48,70; line light 2 60,44 56,70; line light 2 74,44 66,70;
    oval wood 6,24 90,52; oval glow 14,28 82,48
k33 box main 10,30 76,86; ring paper 2 20,36 66,80 0,360; ring paper 2 28,44 58,72 0,360;
    ring paper 2 36,51 50,65 0,360; line wood 8 30,20 80,34; line coffee 4 20,17 26,19;
    line coffee 4 84,35 91,37
k34 oval dough 26,26 70,50; pie metal 18,10 78,72 0,180; box dark 20,66 76,70; box main 8,68 88,88;
    box ink 36,73 60,84; line leaf 2 42,76 42,81; line leaf 2 48,76 48,81; line leaf 2 54,76 54,81
k35 poly main 10,34 50,20 66,60 24,74; poly dark 34,24 84,34 76,76 28,66;
    poly light 40,38 80,44 74,70 38,64; oval main 50,46 58,54; oval main 62,52 70,60;
    oval main 46,56 54,63
k36 box steel 8,34 42,86; box main 10,36 40,84; box tomato 11,54 39,83; box main 8,26 42,36;
    line fire 2 8,36 42,36; box steel 52,34 88,86; box main 54,36 86,84; box leaf 55,50 85,83;
    box main 52,26 88,36; line fire 2 52,36 88,36; ring ink 2 4,24 16,48 90,270;
    ring ink 2 80,24 92,48 270,90
k37 box main 18,34 78,88; oval main 12,40 84,84; box dark 16,30 80,40; oval main 28,18 68,36;
    oval dark 42,12 54,22; ring dark 3 4,46 22,66 90,270; ring dark 3 74,46 92,66 270,90;
    box dough 22,56 74,62
k38 ring steel 3 18,10 78,74 180,360; poly main 22,40 74,40 68,88 28,88; box dark 18,32 78,42;
    oval ink 42,26 54,34; oval leaf 36,54 60,72; line main 2 40,70 54,58
k39 line light 9 56,36 78,10; pie main 10,14 86,90 0,180; oval dark 10,42 86,62;
    oval leaf 28,46 56,56; box dark 28,84 68,91; line light 9 56,50 66,26
k40 oval main 38,8 58,28; box dark 42,24 54,34; poly main 36,34 60,34 54,54 64,84 32,84 42,54;
    oval steel 44,3 52,11; box dark 30,82 66,90; oval ink 22,88 26,92; oval ink 70,87 74,91
"""

DRAWINGS: dict[str, str] = dict(re.findall(r"^(\w+) (.*(?:\n .*)*)", _TEXT, re.MULTILINE))
"""Item id to its strokes."""
